// Sends one letter through the document-delivery gateway, with .NET 8 and the package System.Security.Cryptography.Xml.
//
// NOT RUN BY OUR TESTS, unlike the other recipes: this one has been read carefully, and neither compiled nor tried. What
// it sends has the same shape as what they send. If something does not work, the gateway's answer says what to change.
//
//   dotnet new console --name SendLetter && cd SendLetter && cp .../SendLetter.cs Program.cs
//   dotnet add package System.Security.Cryptography.Xml --version 8.*
//   dotnet run -- REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]
//
// REFERENCE is your own for this letter; the same one is never delivered twice, so after any doubt give the same
// command. RECIPIENT is a file as ../recipient.txt, or - to be asked: a personal number never stands on a command line.
// The rest comes from the variables of ../sender.env. Exit codes: 0 accepted, 1 refused, 2 wrong use, 3 no answer.

using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Security.Cryptography.Xml;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Xml;
using System.Xml.Linq;

XNamespace ns = "urn:document-gateway:message:1";
int[] pausesInSeconds = { 1, 2, 4, 8, 16, 32, 60 };
const int longestPauseInSeconds = 300; // when the gateway asks for more, such as a new day, a later run takes over
int[] tryAgain = { 408, 429, 500, 502, 503, 504 };

try
{
    await Run();
    return 0;
}
catch (End end)
{
    Console.Error.WriteLine(end.Message);
    return end.Code;
}

async Task Run()
{
    if (args.Length < 3)
        throw new End(2, "usage: SendLetter REFERENCE RECIPIENT DOCUMENT.pdf [ANNEX.pdf ...]");
    var reference = args[0];
    if (!Regex.IsMatch(reference, @"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}\z"))
        throw new End(2, "REFERENCE is 1 to 64 of A-Z a-z 0-9 . _ -");
    var enclosures = args.Skip(2).Select((file, place) => ReadEnclosure(file, $"upfile{place + 1}")).ToList();

    var password = File.ReadAllText(Setting("SENDER_KEYSTORE_PASSWORD_FILE")).Trim();
    using var certificate = new X509Certificate2(Setting("SENDER_KEYSTORE"), password);
    var message = Sign(Build(reference, ReadRecipient(args[1]), enclosures), certificate);

    // Kept under its digest, before it leaves: the receipt names the digest of the message that the gateway accepted,
    // which after a lost answer may be one that was signed in an earlier run. These files name a person: keep the
    // folder for yourself.
    var kept = Path.Combine(Optional("SENT_FOLDER") ?? "sent", reference);
    Directory.CreateDirectory(kept);
    var signed = Path.Combine(kept, Hex(SHA256.HashData(message)) + ".xml");
    File.WriteAllBytes(signed, message);
    if (Optional("GATEWAY_URL") is null)
        throw new End(0, $"signed, not sent: {signed}");

    var (status, answer) = await SendUntilAnswered(message, enclosures, certificate);
    var receipt = JsonDocument.Parse(answer).RootElement.GetProperty("receipt").GetString() ?? "";
    var messageId = Verify(receipt, reference, kept);
    File.WriteAllText(Path.Combine(kept, "receipt.jws"), receipt);
    Console.WriteLine($"{status} {messageId}");
    Console.Error.WriteLine($"accepted; keep {kept}");
}

// ── The letter ──

string[] ReadRecipient(string source)
{
    if (source == "-")
    {
        if (!Console.IsInputRedirected)
            Console.Error.WriteLine("National or enterprise number, then name:, street: and so on; end with Ctrl-D");
        return Lines(Console.In.ReadToEnd());
    }
    if (!File.Exists(source))
        throw new End(2, "RECIPIENT is no file");
    return Lines(File.ReadAllText(source));
}

string[] Lines(string text) => text.Trim().Split('\n', StringSplitOptions.TrimEntries);

Enclosure ReadEnclosure(string file, string part)
{
    var name = Path.GetFileName(file);
    // In any other name .NET would write letters in a form that is not the one of the message.
    if (!Regex.IsMatch(name, @"\A[A-Za-z0-9._ -]+\z"))
        throw new End(2, $"give this file a name of A-Z a-z 0-9 . _ - and spaces: {name}");
    using var stream = File.OpenRead(file);
    return new Enclosure(file, part, name, stream.Length, Hex(SHA256.HashData(stream)));
}

// The order of the elements is that of message.xsd.
XElement Build(string reference, string[] recipient, List<Enclosure> enclosures) =>
    new(ns + "Message",
        new XAttribute("Id", "message"),
        Text("Gateway", Setting("GATEWAY_NAME")),
        Text("Reference", reference),
        Text("CreatedAt", DateTime.UtcNow.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", CultureInfo.InvariantCulture)),
        new XElement(ns + "Sender",
            Text("EnterpriseNumber", Setting("SENDER_NUMBER")),
            Optional("SENDER_PROFILE") is { } profile ? Text("Profile", profile) : null),
        Text("Category", Setting("LETTER_CATEGORY")),
        Text("Purpose", Setting("LETTER_PURPOSE")),
        new XElement(ns + "Recipient", Number(recipient), Address(recipient)),
        new XElement(ns + "Subject",
            new XAttribute("lang", Optional("LETTER_LANGUAGE") ?? "nl"), Nfc(Setting("LETTER_SUBJECT"))),
        new XElement(ns + "Documents", enclosures.Select(each => new XElement(ns + "Document",
            new XAttribute("part", each.Part),
            new XAttribute("filename", each.Filename),
            new XAttribute("mediaType", "application/pdf"),
            new XAttribute("size", each.SizeBytes),
            new XAttribute("sha256", each.Sha256),
            new XAttribute("main", each.Part == "upfile1" ? "true" : "false")))));

XElement Text(string name, string text) => new(ns + name, Nfc(text));

string Nfc(string text) => text.Normalize(NormalizationForm.FormC); // what the gateway asks for

XElement Number(string[] recipient)
{
    var number = Regex.Replace(recipient[0], "[ ./-]", "");
    if (!Regex.IsMatch(number, @"\A[0-9]{10,11}\z"))
        throw new End(2, "the first line of RECIPIENT must be a number: eleven digits (national) or ten (enterprise)");
    return Text(number.Length == 11 ? "Ssin" : "EnterpriseNumber", number);
}

XElement? Address(string[] recipient)
{
    var fields = recipient.Skip(1).Select(line => line.Split(':', 2, StringSplitOptions.TrimEntries))
        .Where(halves => halves.Length == 2).ToDictionary(halves => halves[0], halves => halves[1]);
    if (!fields.ContainsKey("name"))
        return null;
    fields.TryAdd("country", "BE");
    var names = new[]
    {
        ("Name", "name"), ("Street", "street"), ("HouseNumber", "house number"), ("Box", "box"),
        ("Postcode", "postcode"), ("Municipality", "municipality"), ("Country", "country"),
    };
    return new XElement(ns + "PostalAddress",
        names.Where(name => fields.ContainsKey(name.Item2)).Select(name => Text(name.Item1, fields[name.Item2])));
}

// ── The signature ──

byte[] Sign(XElement message, X509Certificate2 certificate)
{
    var document = new XmlDocument { PreserveWhitespace = true }; // else white space is signed and then not sent
    document.LoadXml(message.ToString(SaveOptions.DisableFormatting));

    AsymmetricAlgorithm? key = certificate.GetRSAPrivateKey();
    key ??= certificate.GetECDsaPrivateKey();
    if (key is null)
        throw new End(2, "SENDER_KEYSTORE holds no private key");
    // SignedXml knows RSA only; this teaches it ECDSA.
    CryptoConfig.AddAlgorithm(typeof(EcdsaSha256), EcdsaSha256.Name);

    var wholeMessage = new Reference("") { DigestMethod = SignedXml.XmlDsigSHA256Url };
    wholeMessage.AddTransform(new XmlDsigEnvelopedSignatureTransform());
    wholeMessage.AddTransform(new XmlDsigExcC14NTransform());

    var signature = new SignedXml(document) { SigningKey = key };
    signature.SignedInfo!.CanonicalizationMethod = SignedXml.XmlDsigExcC14NTransformUrl;
    signature.SignedInfo.SignatureMethod = key is RSA ? SignedXml.XmlDsigRSASHA256Url : EcdsaSha256.Name;
    signature.AddReference(wholeMessage);
    // KeyInfo holds the signing certificate alone, without those that issued it.
    signature.KeyInfo = new KeyInfo();
    signature.KeyInfo.AddClause(new KeyInfoX509Data(certificate));
    signature.ComputeSignature();

    document.DocumentElement!.AppendChild(document.ImportNode(signature.GetXml(), deep: true));
    return new UTF8Encoding(encoderShouldEmitUTF8Identifier: false).GetBytes(document.OuterXml); // never indented
}

// ── The request ──

// The reference makes it safe to send the same message as often as it takes.
async Task<(int, byte[])> SendUntilAnswered(byte[] message, List<Enclosure> enclosures, X509Certificate2 certificate)
{
    using var handler = new SocketsHttpHandler
    {
        AllowAutoRedirect = false,
        ConnectTimeout = TimeSpan.FromSeconds(10),
        SslOptions = new SslClientAuthenticationOptions
        {
            EnabledSslProtocols = SslProtocols.Tls13,
            LocalCertificateSelectionCallback = (_, _, _, _, _) => certificate,
            CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                CustomTrustStore = { X509Certificate2.CreateFromPem(File.ReadAllText(Setting("GATEWAY_CA"))) },
                RevocationMode = X509RevocationMode.NoCheck,
            },
        },
    };
    using var client = new HttpClient(handler) { Timeout = TimeSpan.FromMinutes(5) };
    for (var attempt = 0; ; attempt++)
    {
        var pause = attempt < pausesInSeconds.Length ? pausesInSeconds[attempt] : 0;
        try
        {
            using var form = Form(message, enclosures);
            using var answer = await client.PostAsync(Setting("GATEWAY_URL") + "/api/v1/messages", form);
            var body = await answer.Content.ReadAsByteArrayAsync();
            var status = (int)answer.StatusCode;
            if (answer.StatusCode is HttpStatusCode.Created or HttpStatusCode.OK)
                return (status, body);
            var problem = Encoding.UTF8.GetString(body);
            if (!tryAgain.Contains(status) && !problem.Contains("still-receiving"))
                throw new End(1, $"{status} {problem}"); // the same again would be refused again: mend it first
            Console.Error.WriteLine($"{status} {problem}");
            if (answer.Headers.RetryAfter?.Delta is { } wait)
                pause = (int)wait.TotalSeconds;
        }
        catch (Exception error) when (error is HttpRequestException or TaskCanceledException or IOException)
        {
            Console.Error.WriteLine($"no answer: {error.Message}");
        }
        if (attempt == pausesInSeconds.Length || pause > longestPauseInSeconds)
            throw new End(3, "no acceptance yet; whether it arrived is unknown: give the same command again later");
        await Task.Delay(TimeSpan.FromSeconds(pause));
    }
}

MultipartFormDataContent Form(byte[] message, List<Enclosure> enclosures)
{
    var form = new MultipartFormDataContent("letter-" + Guid.NewGuid().ToString("N"));
    form.Add(Part(new ByteArrayContent(message), "application/xml", "message", null));
    foreach (var each in enclosures) // read while they are sent
        form.Add(Part(new StreamContent(File.OpenRead(each.File)), "application/pdf", each.Part, each.Filename));
    return form;
}

HttpContent Part(HttpContent content, string mediaType, string name, string? filename)
{
    content.Headers.ContentType = new MediaTypeHeaderValue(mediaType); // without a charset
    // Written out, because Add(content, name, filename) leaves out the quotes and adds a second name, filename*.
    content.Headers.ContentDisposition = new ContentDispositionHeaderValue("form-data") { Name = $"\"{name}\"" };
    if (filename is not null)
        content.Headers.ContentDisposition.FileName = $"\"{filename}\"";
    return content;
}

// ── The receipt: a JWS (RFC 7515), ES256 ──

string Verify(string receipt, string reference, string kept)
{
    var parts = receipt.Split('.');
    if (parts.Length != 3)
        throw new End(1, "the receipt is no JWS");
    var header = JsonDocument.Parse(FromBase64Url(parts[0])).RootElement;
    // Only the receipt certificate that you were given may verify it; the one inside the receipt proves nothing.
    using var certificate = X509Certificate2.CreateFromPem(File.ReadAllText(Setting("RECEIPT_CERTIFICATE")));
    using var key = certificate.GetECDsaPublicKey() ?? throw new End(2, "RECEIPT_CERTIFICATE has no EC key");
    var signed = Encoding.ASCII.GetBytes($"{parts[0]}.{parts[1]}");
    if (header.GetProperty("alg").GetString() != "ES256"
        || header.GetProperty("typ").GetString() != "dgw-receipt+jws"
        || !key.VerifyData(signed, FromBase64Url(parts[2]), HashAlgorithmName.SHA256))
        throw new End(1, "the receipt's signature is not valid");

    var facts = JsonDocument.Parse(FromBase64Url(parts[1])).RootElement;
    string Fact(string name) => facts.GetProperty(name).GetString() ?? "";
    if ((Fact("iss"), Fact("sender"), Fact("reference")) != (Setting("GATEWAY_NAME"), Setting("SENDER_NUMBER"), reference))
        throw new End(1, "the receipt is for another letter");
    var accepted = Fact("messageSha256");
    if (!Regex.IsMatch(accepted, @"\A[0-9a-f]{64}\z") || !File.Exists(Path.Combine(kept, accepted + ".xml")))
        throw new End(1, $"the receipt is for a signed message that is not in {kept}");
    return Fact("sub");
}

byte[] FromBase64Url(string text)
{
    var standard = text.Replace('-', '+').Replace('_', '/');
    return Convert.FromBase64String(standard.PadRight((standard.Length + 3) / 4 * 4, '='));
}

// ── Settings ──

string? Optional(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

string Setting(string name) => Optional(name) ?? throw new End(2, $"{name} is not set; see sender.env");

string Hex(byte[] bytes) => Convert.ToHexString(bytes).ToLowerInvariant();

/// <summary>One file of the letter, and how it stands in the message.</summary>
public sealed record Enclosure(string File, string Part, string Filename, long SizeBytes, string Sha256);

/// <summary>Ends the program with an exit code and a last word.</summary>
public sealed class End(int code, string text) : Exception(text)
{
    public int Code { get; } = code;
}

/// <summary>ECDSA with SHA-256 for SignedXml, under its name of RFC 9231.</summary>
public sealed class EcdsaSha256 : SignatureDescription
{
    public const string Name = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256";

    public override HashAlgorithm CreateDigest() => SHA256.Create();

    public override AsymmetricSignatureFormatter CreateFormatter(AsymmetricAlgorithm key) => new Formatter((ECDsa)key);

    private sealed class Formatter(ECDsa key) : AsymmetricSignatureFormatter
    {
        public override void SetKey(AsymmetricAlgorithm ignored) { } // it has its key

        public override void SetHashAlgorithm(string ignored) { } // SHA-256

        // The two numbers side by side, which is the form of XML Signature, and not DER.
        public override byte[] CreateSignature(byte[] hash) => key.SignHash(hash);
    }
}
