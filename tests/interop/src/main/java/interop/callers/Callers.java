package interop.callers;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.LinkedHashMap;
import java.util.Map;
import okhttp3.MediaType;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.RequestBody;
import okhttp3.Response;
import org.apache.hc.client5.http.classic.methods.HttpUriRequestBase;
import org.apache.hc.client5.http.impl.classic.CloseableHttpClient;
import org.apache.hc.client5.http.impl.classic.HttpClients;
import org.apache.hc.core5.http.ContentType;
import org.apache.hc.core5.http.io.entity.EntityUtils;
import org.apache.hc.core5.http.io.entity.StringEntity;
import org.springframework.http.HttpMethod;
import org.springframework.http.client.JdkClientHttpRequestFactory;
import org.springframework.web.client.RestClient;

/** One purchase's three calls by one of Java's HTTP clients, each with its defaults: {@code callers <name> <base> <bookingId>}. */
public final class Callers {

    private static final ObjectMapper JSON = new ObjectMapper();
    private static final String TYPE = "application/json";
    private static final Map<String, String> IDENTITY = Map.of("X-User-Id", "7", "X-User-Roles", "USER,SERVICE_ACCOUNT");

    /** Calls once; {@code body} is null for GET. Any answer but 200 is an exception, or a body without the members. */
    private interface Caller {
        String call(String method, String address, String body) throws Exception;
    }

    private Callers() {}

    public static void main(String[] args) throws Exception {
        Caller caller = caller(args[0]);
        String base = args[1] + "/api/v1/internal/payments";
        String create = "{\"bookingId\":" + args[2] + ",\"userId\":7,\"amount\":449.97,\"successUrl\":null}";
        Map<String, Object> answers = new LinkedHashMap<>();
        String created = caller.call("POST", base + "/checkout/create", create);
        answers.put("create", JSON.readTree(created));
        String session = JSON.readTree(created).path("sessionId").asText();
        answers.put("verify", JSON.readTree(caller.call("GET", base + "/checkout/verify/" + session, null)));
        answers.put("status", JSON.readTree(caller.call("GET", base + "/status/" + session, null)));
        System.out.println(JSON.writeValueAsString(answers));
        System.exit(0); // OkHttp's threads would live on for a minute
    }

    private static Caller caller(String name) {
        return switch (name) {
            case "jdk" -> jdk(HttpClient.newHttpClient());
            case "rest-client" -> restClient(
                    RestClient.builder().requestFactory(new JdkClientHttpRequestFactory()).build());
            case "okhttp" -> okHttp(new OkHttpClient());
            case "apache" -> apache(HttpClients.createDefault());
            default -> throw new IllegalArgumentException(name);
        };
    }

    private static Caller jdk(HttpClient client) {
        return (method, address, body) -> {
            HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(address)).header("Content-Type", TYPE);
            IDENTITY.forEach(request::header);
            request.method(method, body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body));
            return client.send(request.build(), HttpResponse.BodyHandlers.ofString()).body();
        };
    }

    private static Caller restClient(RestClient client) {
        return (method, address, body) -> {
            RestClient.RequestBodySpec request = client.method(HttpMethod.valueOf(method)).uri(address).header("Content-Type", TYPE);
            IDENTITY.forEach(request::header);
            return (body == null ? request : request.body(body)).retrieve().body(String.class);
        };
    }

    private static Caller okHttp(OkHttpClient client) {
        return (method, address, body) -> {
            Request.Builder request = new Request.Builder().url(address);
            IDENTITY.forEach(request::header);
            request.method(method, body == null ? null : RequestBody.create(body, MediaType.get(TYPE)));
            try (Response response = client.newCall(request.build()).execute()) {
                return response.body().string();
            }
        };
    }

    private static Caller apache(CloseableHttpClient client) {
        return (method, address, body) -> {
            HttpUriRequestBase request = new HttpUriRequestBase(method, URI.create(address));
            IDENTITY.forEach(request::setHeader);
            if (body != null) {
                request.setEntity(new StringEntity(body, ContentType.APPLICATION_JSON));
            }
            return client.execute(request, response -> EntityUtils.toString(response.getEntity()));
        };
    }
}
