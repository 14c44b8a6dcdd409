package interop.booking;

import org.springframework.http.HttpEntity;
import org.springframework.http.HttpHeaders;
import org.springframework.http.HttpMethod;
import org.springframework.http.MediaType;
import org.springframework.stereotype.Component;
import org.springframework.web.client.RestTemplate;

/** The three calls, with the headers and bodies of the Booking Service. */
@Component
class Payments {

    private static final String BASE = "http://PAYMENT-SERVICE/api/v1/internal/payments";
    private static final int TRIES = 15;
    private static final long PAUSE_MILLIS = 2000;

    record Create(Long bookingId, Long userId, Double amount, String successUrl, String cancelUrl) {}

    record Session(String sessionId, String paymentUrl, Long bookingId, Double amount, String status, String message) {}

    record State(
            Long paymentId, Long bookingId, String paymentStatus, String transactionId, Double amount, String message) {}

    private final RestTemplate template;

    Payments(RestTemplate template) {
        this.template = template;
    }

    Session create(long bookingId, double amount) {
        Create body = new Create(bookingId, 7L, amount, null, null);
        return template.postForObject(BASE + "/checkout/create", new HttpEntity<>(body, headers()), Session.class);
    }

    State verify(String sessionId) {
        return get("/checkout/verify/{id}", sessionId);
    }

    State status(String transactionId) {
        return get("/status/{id}", transactionId);
    }

    /** Asks until the payment is final: 15 tries, 2 s apart. */
    State poll(String sessionId) throws InterruptedException {
        State state = verify(sessionId);
        for (int tries = 1; tries < TRIES && state.paymentStatus().equals("PENDING"); tries++) {
            Thread.sleep(PAUSE_MILLIS);
            state = verify(sessionId);
        }
        return state;
    }

    private State get(String path, String id) {
        return template.exchange(BASE + path, HttpMethod.GET, new HttpEntity<>(headers()), State.class, id).getBody();
    }

    private static HttpHeaders headers() {
        HttpHeaders headers = new HttpHeaders();
        headers.setContentType(MediaType.APPLICATION_JSON);
        headers.set("X-User-Id", "7");
        headers.set("X-User-Name", "someone");
        headers.set("X-User-Roles", "USER,SERVICE_ACCOUNT");
        return headers;
    }
}
