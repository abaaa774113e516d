import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublisher;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.text.Normalizer;
import java.time.Duration;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.UUID;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;
import javax.xml.XMLConstants;
import javax.xml.crypto.MarshalException;
import javax.xml.crypto.dsig.CanonicalizationMethod;
import javax.xml.crypto.dsig.DigestMethod;
import javax.xml.crypto.dsig.Reference;
import javax.xml.crypto.dsig.Transform;
import javax.xml.crypto.dsig.XMLSignature;
import javax.xml.crypto.dsig.XMLSignatureException;
import javax.xml.crypto.dsig.XMLSignatureFactory;
import javax.xml.crypto.dsig.dom.DOMSignContext;
import javax.xml.crypto.dsig.dom.DOMValidateContext;
import javax.xml.crypto.dsig.keyinfo.KeyInfoFactory;
import javax.xml.crypto.dsig.spec.C14NMethodParameterSpec;
import javax.xml.crypto.dsig.spec.TransformParameterSpec;
import javax.xml.parsers.DocumentBuilderFactory;
import javax.xml.transform.TransformerFactory;
import javax.xml.transform.dom.DOMSource;
import javax.xml.transform.stream.StreamResult;
import org.w3c.dom.Document;
import org.w3c.dom.Element;
import org.xml.sax.SAXException;

/**
 * Sends one letter through the document-delivery gateway, with Java 17 and nothing else.
 *
 * <pre>
 *   javac SendLetter.java
 *   java SendLetter REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]
 * </pre>
 *
 * REFERENCE is your own for this letter; the same one is never delivered twice, so after any doubt give the same
 * command. RECIPIENT is a file as ../recipient.txt, or - to be asked: a personal number never stands on a command line.
 * The rest comes from the variables of ../sender.env. Exit codes: 0 accepted, 1 refused, 2 wrong use, 3 no answer.
 */
public final class SendLetter {
    private static final String MESSAGE_NS = "urn:document-gateway:message:1";
    private static final String RECEIPT_NS = "urn:document-gateway:receipt:1";
    private static final String MORE = "http://www.w3.org/2001/04/xmldsig-more#";
    private static final String LINE_BREAKS = "com.sun.org.apache.xml.internal.security.ignoreLineBreaks";

    private static final Duration CONNECT_TIMEOUT = Duration.ofSeconds(10);
    private static final Duration ANSWER_TIMEOUT = Duration.ofMinutes(5); // from the first byte sent to the answer
    private static final List<Integer> PAUSES_S = List.of(1, 2, 4, 8, 16, 32, 60);
    private static final int LONGEST_PAUSE_S = 300; // asked for more, such as a new day, a later run takes over
    private static final Set<Integer> TRY_AGAIN = Set.of(408, 429, 500, 502, 503, 504);

    /** One file of the letter, and how it stands in the message. */
    private record Enclosure(Path file, String part, String filename, long sizeBytes, String sha256) {}

    /** Ends the program with an exit code and a last word. */
    private static final class End extends Exception {
        private static final long serialVersionUID = 1L;
        private final int code;

        End(int code, String text) {
            super(text);
            this.code = code;
        }
    }

    private SendLetter() {}

    public static void main(String[] arguments) throws Exception {
        // The JDK breaks long Base64 values with CR LF, which shows as "&#13;" in SignatureValue. That is
        // valid and the gateway takes it, but not every reader does. To be set before the first signature is made.
        if (System.getProperty(LINE_BREAKS) == null) {
            System.setProperty(LINE_BREAKS, "true");
        }
        try {
            run(arguments);
        } catch (End end) {
            System.err.println(end.getMessage());
            System.exit(end.code);
        }
    }

    private static void run(String[] arguments) throws Exception {
        if (arguments.length < 3) {
            throw new End(2, "usage: SendLetter REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]");
        }
        String reference = arguments[0];
        if (!reference.matches("[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")) {
            throw new End(2, "REFERENCE is 1 to 64 of A-Z a-z 0-9 . _ -");
        }
        List<Enclosure> enclosures = new ArrayList<>();
        for (String file : Arrays.asList(arguments).subList(2, arguments.length)) {
            enclosures.add(enclosure(enclosures.size() + 1, Path.of(file)));
        }
        KeyStore.PrivateKeyEntry identity = identity();
        Document document = build(reference, readRecipient(arguments[1]), enclosures);
        sign(document, identity);
        byte[] message = serialise(document);

        // Kept under its digest, before it leaves: the receipt names the digest of the message that the gateway
        // accepted, which after a lost answer may be one that was signed in an earlier run. These files name a person:
        // keep the folder for yourself.
        Path kept = Path.of(setting("SENT_FOLDER", "sent"), reference);
        Files.createDirectories(kept);
        Path signed = kept.resolve(hex(MessageDigest.getInstance("SHA-256").digest(message)) + ".xml");
        Files.write(signed, message);
        if (setting("GATEWAY_URL", "").isEmpty()) {
            throw new End(0, "signed, not sent: " + signed);
        }

        HttpResponse<byte[]> answer = sendUntilAnswered(message, enclosures);
        String messageId = verify(answer.body(), reference, kept);
        Files.write(kept.resolve("receipt.xml"), answer.body());
        System.out.println(answer.statusCode() + " " + messageId);
        System.err.println("accepted; keep " + kept);
    }

    // ── The letter ──

    private static List<String> readRecipient(String source) throws End, IOException {
        if (source.equals("-")) {
            if (System.console() != null) {
                System.err.println("National or enterprise number, then name:, street: and so on; end with Ctrl-D");
            }
            return new String(System.in.readAllBytes(), StandardCharsets.UTF_8).strip().lines().toList();
        }
        if (!Files.isRegularFile(Path.of(source))) {
            throw new End(2, "RECIPIENT is no file");
        }
        return Files.readString(Path.of(source)).strip().lines().toList();
    }

    private static Enclosure enclosure(int number, Path file) throws End, GeneralSecurityException {
        String name = nfc(file.getFileName().toString());
        if (!name.matches("[^\\x00-\\x1f\"\\\\;/]+")) {
            throw new End(2, "give this file a name without \", \\, ; and control characters: " + name);
        }
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        try (InputStream stream = new DigestInputStream(Files.newInputStream(file), digest)) {
            long size = stream.transferTo(java.io.OutputStream.nullOutputStream());
            return new Enclosure(file, "upfile" + number, name, size, hex(digest.digest()));
        } catch (IOException error) {
            throw new End(2, "cannot be read: " + error.getMessage());
        }
    }

    /** Returns the message, unsigned; the order of the elements is that of message.xsd. */
    private static Document build(String reference, List<String> recipient, List<Enclosure> enclosures)
            throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        Document document = factory.newDocumentBuilder().newDocument();
        document.setXmlStandalone(true);
        Element message = document.createElementNS(MESSAGE_NS, "Message");
        // Canonicalisation sees only declarations that are attributes; without this one the digest is of another text.
        message.setAttributeNS(XMLConstants.XMLNS_ATTRIBUTE_NS_URI, "xmlns", MESSAGE_NS);
        message.setAttribute("Id", "message");
        document.appendChild(message);
        add(message, "Gateway", setting("GATEWAY_NAME"));
        add(message, "Reference", reference);
        add(message, "CreatedAt", Instant.now().truncatedTo(ChronoUnit.SECONDS).toString());
        Element sender = add(message, "Sender");
        add(sender, "EnterpriseNumber", setting("SENDER_NUMBER"));
        if (!setting("SENDER_PROFILE", "").isEmpty()) {
            add(sender, "Profile", setting("SENDER_PROFILE"));
        }
        add(message, "Category", setting("LETTER_CATEGORY"));
        add(message, "Purpose", setting("LETTER_PURPOSE"));
        addRecipient(add(message, "Recipient"), recipient);
        add(message, "Subject", setting("LETTER_SUBJECT")).setAttribute("lang", setting("LETTER_LANGUAGE", "nl"));
        Element manifest = add(message, "Documents");
        for (Enclosure enclosure : enclosures) {
            Element entry = add(manifest, "Document");
            entry.setAttribute("part", enclosure.part());
            entry.setAttribute("filename", enclosure.filename());
            entry.setAttribute("mediaType", "application/pdf");
            entry.setAttribute("size", Long.toString(enclosure.sizeBytes()));
            entry.setAttribute("sha256", enclosure.sha256());
            entry.setAttribute("main", Boolean.toString(enclosure.part().equals("upfile1")));
        }
        return document;
    }

    private static void addRecipient(Element element, List<String> lines) throws End {
        String number = lines.isEmpty() ? "" : lines.get(0).replaceAll("[ ./-]", "");
        if (!number.matches("[0-9]{10,11}")) {
            throw new End(2, "the first line of RECIPIENT must be a number: eleven digits (national) or ten (enterprise)");
        }
        add(element, number.length() == 11 ? "Ssin" : "EnterpriseNumber", number);
        Map<String, String> fields = new TreeMap<>(Map.of("country", "BE"));
        for (String line : lines.subList(1, lines.size())) {
            String[] halves = line.split(":", 2);
            fields.put(halves[0].strip(), halves[halves.length - 1].strip());
        }
        if (fields.containsKey("name")) {
            Element address = add(element, "PostalAddress");
            add(address, "Name", fields.get("name"));
            add(address, "Street", fields.getOrDefault("street", ""));
            add(address, "HouseNumber", fields.getOrDefault("house number", ""));
            if (fields.containsKey("box")) {
                add(address, "Box", fields.get("box"));
            }
            add(address, "Postcode", fields.getOrDefault("postcode", ""));
            add(address, "Municipality", fields.getOrDefault("municipality", ""));
            add(address, "Country", fields.get("country"));
        }
    }

    private static Element add(Element parent, String name) {
        Element child = parent.getOwnerDocument().createElementNS(MESSAGE_NS, name);
        parent.appendChild(child);
        return child;
    }

    private static Element add(Element parent, String name, String text) {
        Element child = add(parent, name);
        child.setTextContent(nfc(text));
        return child;
    }

    /** Returns a text in Unicode form NFC, which is what the gateway asks for. */
    private static String nfc(String text) {
        return Normalizer.normalize(text, Normalizer.Form.NFC);
    }

    // ── The signature ──

    private static KeyStore.PrivateKeyEntry identity() throws Exception {
        KeyStore store = keyStore();
        for (String alias : Collections.list(store.aliases())) {
            if (store.isKeyEntry(alias)) {
                return (KeyStore.PrivateKeyEntry) store.getEntry(alias, new KeyStore.PasswordProtection(password()));
            }
        }
        throw new End(2, "SENDER_KEYSTORE holds no private key");
    }

    private static KeyStore keyStore() throws Exception {
        return KeyStore.getInstance(Path.of(setting("SENDER_KEYSTORE")).toFile(), password());
    }

    private static char[] password() throws End, IOException {
        return Files.readString(Path.of(setting("SENDER_KEYSTORE_PASSWORD_FILE"))).strip().toCharArray();
    }

    /** Appends the signature as the last child of the root; nothing may be changed or indented after that. */
    private static void sign(Document document, KeyStore.PrivateKeyEntry identity) throws Exception {
        XMLSignatureFactory factory = XMLSignatureFactory.getInstance("DOM");
        Reference wholeMessage =
                factory.newReference(
                        "",
                        factory.newDigestMethod(DigestMethod.SHA256, null),
                        List.of(
                                factory.newTransform(Transform.ENVELOPED, (TransformParameterSpec) null),
                                factory.newTransform(CanonicalizationMethod.EXCLUSIVE, (TransformParameterSpec) null)),
                        null,
                        null);
        boolean isEc = identity.getPrivateKey().getAlgorithm().equals("EC");
        KeyInfoFactory keyInfo = factory.getKeyInfoFactory();
        XMLSignature signature =
                factory.newXMLSignature(
                        factory.newSignedInfo(
                                factory.newCanonicalizationMethod(
                                        CanonicalizationMethod.EXCLUSIVE, (C14NMethodParameterSpec) null),
                                factory.newSignatureMethod(MORE + (isEc ? "ecdsa-sha256" : "rsa-sha256"), null),
                                List.of(wholeMessage)),
                        // KeyInfo holds the signing certificate alone, without those that issued it.
                        keyInfo.newKeyInfo(List.of(keyInfo.newX509Data(List.of(identity.getCertificate())))));
        signature.sign(new DOMSignContext(identity.getPrivateKey(), document.getDocumentElement()));
    }

    private static byte[] serialise(Document document) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        TransformerFactory.newInstance().newTransformer().transform(new DOMSource(document), new StreamResult(bytes));
        return bytes.toByteArray();
    }

    // ── The request ──

    /** Returns the acceptance. The reference makes it safe to send the same message as often as it takes. */
    private static HttpResponse<byte[]> sendUntilAnswered(byte[] message, List<Enclosure> enclosures)
            throws Exception {
        HttpClient client =
                HttpClient.newBuilder()
                        .version(HttpClient.Version.HTTP_1_1)
                        .sslContext(tls())
                        .sslParameters(new SSLParameters(null, new String[] {"TLSv1.3"}))
                        .connectTimeout(CONNECT_TIMEOUT)
                        .build();
        for (int attempt = 0; ; attempt++) {
            int pauseS = attempt < PAUSES_S.size() ? PAUSES_S.get(attempt) : 0;
            try {
                HttpResponse<byte[]> answer = client.send(request(message, enclosures), BodyHandlers.ofByteArray());
                if (answer.statusCode() == 201 || answer.statusCode() == 200) {
                    return answer;
                }
                String problem = answer.statusCode() + " " + new String(answer.body(), StandardCharsets.UTF_8);
                if (!TRY_AGAIN.contains(answer.statusCode()) && !problem.contains("still-receiving")) {
                    throw new End(1, problem); // the same again would be refused again: mend it first
                }
                System.err.println(problem);
                String retryAfter = answer.headers().firstValue("Retry-After").orElse("");
                pauseS = retryAfter.matches("[0-9]{1,9}") ? Integer.parseInt(retryAfter) : pauseS;
            } catch (IOException error) { // a time-out is one too
                System.err.println("no answer: " + error);
            }
            if (attempt == PAUSES_S.size() || pauseS > LONGEST_PAUSE_S) {
                throw new End(3, "no acceptance yet; whether it arrived is unknown: give the same command again later");
            }
            Thread.sleep(Duration.ofSeconds(pauseS).toMillis());
        }
    }

    private static HttpRequest request(byte[] message, List<Enclosure> enclosures) throws Exception {
        String boundary = "letter-" + UUID.randomUUID();
        List<BodyPublisher> body = new ArrayList<>();
        body.add(head(boundary, "name=\"message\"", "application/xml"));
        body.add(BodyPublishers.ofByteArray(message));
        for (Enclosure each : enclosures) {
            String name = "name=\"%s\"; filename=\"%s\"".formatted(each.part(), each.filename());
            body.add(BodyPublishers.ofString("\r\n"));
            body.add(head(boundary, name, "application/pdf"));
            body.add(BodyPublishers.ofFile(each.file())); // read while it is sent
        }
        body.add(BodyPublishers.ofString("\r\n--" + boundary + "--\r\n"));
        return HttpRequest.newBuilder(URI.create(setting("GATEWAY_URL") + "/api/v1/messages"))
                .timeout(ANSWER_TIMEOUT)
                .header("Content-Type", "multipart/form-data; boundary=" + boundary)
                .header("Accept", "application/xml") // the receipt as signed XML; JSON without it
                .POST(BodyPublishers.concat(body.toArray(BodyPublisher[]::new)))
                .build();
    }

    private static BodyPublisher head(String boundary, String name, String mediaType) {
        return BodyPublishers.ofString(
                "--" + boundary + "\r\n"
                        + "Content-Disposition: form-data; " + name + "\r\n"
                        + "Content-Type: " + mediaType + "\r\n\r\n");
    }

    private static SSLContext tls() throws Exception {
        KeyManagerFactory keys = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        keys.init(keyStore(), password());
        KeyStore authorities = KeyStore.getInstance("PKCS12");
        authorities.load(null, null);
        authorities.setCertificateEntry("gateway", certificate("GATEWAY_CA"));
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(authorities);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    private static X509Certificate certificate(String name) throws Exception {
        try (InputStream file = Files.newInputStream(Path.of(setting(name)))) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(file);
        }
    }

    // ── The receipt ──

    /** Returns the messageId of a receipt that the gateway signed, about a message that was kept. */
    private static String verify(byte[] receipt, String reference, Path kept) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setNamespaceAware(true);
        factory.setFeature("http://apache.org/xml/features/disallow-doctype-decl", true);
        Element root = null;
        try {
            root = factory.newDocumentBuilder().parse(new ByteArrayInputStream(receipt)).getDocumentElement();
        } catch (SAXException error) {
            throw new End(1, "the receipt is not XML");
        }
        if (!isValid(root)) {
            throw new End(1, "the receipt's signature is not valid");
        }
        if (!fact(root, "Gateway").equals(setting("GATEWAY_NAME"))
                || !fact(root, "Sender").equals(setting("SENDER_NUMBER"))
                || !fact(root, "Reference").equals(reference)) {
            throw new End(1, "the receipt is for another letter");
        }
        String accepted = fact(root, "MessageSha256");
        if (!accepted.matches("[0-9a-f]{64}") || !Files.isRegularFile(kept.resolve(accepted + ".xml"))) {
            throw new End(1, "the receipt is for a signed message that is not in " + kept);
        }
        return fact(root, "MessageId");
    }

    /** Whether the gateway signed the whole document: one signature, a child of the root, over the root. */
    private static boolean isValid(Element root) throws Exception {
        var signatures = root.getElementsByTagNameNS(XMLSignature.XMLNS, "Signature");
        boolean isReceipt = RECEIPT_NS.equals(root.getNamespaceURI()) && root.getLocalName().equals("Receipt");
        if (!isReceipt || signatures.getLength() != 1 || signatures.item(0).getParentNode() != root) {
            return false;
        }
        root.setIdAttribute("Id", true);
        // Only the receipt certificate that you were given may verify it; the one inside the receipt proves nothing.
        DOMValidateContext context =
                new DOMValidateContext(certificate("RECEIPT_CERTIFICATE").getPublicKey(), signatures.item(0));
        context.setProperty("org.jcp.xml.dsig.secureValidation", true);
        try {
            XMLSignature signature = XMLSignatureFactory.getInstance("DOM").unmarshalXMLSignature(context);
            List<Reference> references = signature.getSignedInfo().getReferences();
            return references.size() == 1
                    && Set.of("", "#" + root.getAttribute("Id")).contains(references.get(0).getURI())
                    && signature.validate(context);
        } catch (MarshalException | XMLSignatureException error) {
            return false;
        }
    }

    private static String fact(Element root, String name) {
        var found = root.getElementsByTagNameNS(RECEIPT_NS, name);
        return found.getLength() == 1 ? found.item(0).getTextContent() : "";
    }

    // ── Settings ──

    private static String setting(String name) throws End {
        String value = setting(name, "");
        if (value.isEmpty()) {
            throw new End(2, name + " is not set; see sender.env");
        }
        return value;
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }

    private static String hex(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
