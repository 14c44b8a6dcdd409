package interop.booking;

import java.util.List;
import java.util.Map;
import org.springframework.cloud.client.ServiceInstance;
import org.springframework.cloud.client.discovery.DiscoveryClient;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestParam;
import org.springframework.web.bind.annotation.RestController;

/** What the tests tell this program to do. */
@RestController
class Control {

    private final Payments payments;
    private final Load load;
    private final DiscoveryClient discovery;

    Control(Payments payments, Load load, DiscoveryClient discovery) {
        this.payments = payments;
        this.load = load;
        this.discovery = discovery;
    }

    /** The addresses under which this program knows the bridge. */
    @GetMapping("/instances")
    List<String> instances() {
        return discovery.getInstances("payment-service").stream().map(ServiceInstance::getUri).map(Object::toString).toList();
    }

    @PostMapping("/create")
    Payments.Session create(@RequestParam long bookingId, @RequestParam double amount) {
        return payments.create(bookingId, amount);
    }

    @GetMapping("/verify/{sessionId}")
    Payments.State verify(@PathVariable String sessionId) {
        return payments.verify(sessionId);
    }

    @GetMapping("/poll/{sessionId}")
    Payments.State poll(@PathVariable String sessionId) throws InterruptedException {
        return payments.poll(sessionId);
    }

    @GetMapping("/status/{transactionId}")
    Payments.State status(@PathVariable String transactionId) {
        return payments.status(transactionId);
    }

    @PostMapping("/load/start")
    void start(@RequestParam int buyers, @RequestParam long firstBookingId, @RequestParam long pauseMillis) {
        load.start(buyers, firstBookingId, pauseMillis);
    }

    @PostMapping("/load/stop")
    Map<String, Object> stop() throws InterruptedException {
        return load.stop();
    }
}
