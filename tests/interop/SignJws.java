import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.spec.MGF1ParameterSpec;
import java.security.spec.PKCS8EncodedKeySpec;
import java.security.spec.PSSParameterSpec;
import java.util.Base64;

/** Signs the octets of a file as JWS (RFC 7515) with what the JDK has: ALG KEY.der CERTIFICATE.der PAYLOAD. */
public final class SignJws {
    public static void main(String[] arguments) throws Exception {
        String algorithm = arguments[0];
        byte[] key = Files.readAllBytes(Path.of(arguments[1]));
        String certificate = Base64.getEncoder().encodeToString(Files.readAllBytes(Path.of(arguments[2])));
        byte[] payload = Files.readAllBytes(Path.of(arguments[3]));
        String header = "{\"x5c\":[\"" + certificate + "\"],\"cty\":\"message+json\",\"alg\":\"" + algorithm + "\"}";
        String data = encoded(header.getBytes(StandardCharsets.UTF_8)) + "." + encoded(payload);
        Signature signature = switch (algorithm) {
            case "ES256" -> Signature.getInstance("SHA256withECDSAinP1363Format");
            case "ES384" -> Signature.getInstance("SHA384withECDSAinP1363Format");
            case "RS256" -> Signature.getInstance("SHA256withRSA");
            default -> Signature.getInstance("RSASSA-PSS");
        };
        if (algorithm.equals("PS256")) {
            signature.setParameter(new PSSParameterSpec("SHA-256", "MGF1", MGF1ParameterSpec.SHA256, 32, 1));
        }
        String kind = algorithm.startsWith("ES") ? "EC" : "RSA";
        PrivateKey signer = KeyFactory.getInstance(kind).generatePrivate(new PKCS8EncodedKeySpec(key));
        signature.initSign(signer);
        signature.update(data.getBytes(StandardCharsets.US_ASCII));
        System.out.print(data + "." + encoded(signature.sign()));
    }

    private static String encoded(byte[] octets) {
        return Base64.getUrlEncoder().withoutPadding().encodeToString(octets);
    }
}
