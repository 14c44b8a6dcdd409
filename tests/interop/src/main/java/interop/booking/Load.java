package interop.booking;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.stereotype.Component;

/** Creates and verifies, steadily, until told to stop; every failed call is kept. */
@Component
class Load {

    private final Payments payments;
    private final AtomicInteger creates = new AtomicInteger();
    private final AtomicInteger verifies = new AtomicInteger();
    private final ConcurrentLinkedQueue<String> failures = new ConcurrentLinkedQueue<>();
    private final List<Thread> buyers = new ArrayList<>();
    private volatile boolean going;

    Load(Payments payments) {
        this.payments = payments;
    }

    synchronized void start(int buyersAtOnce, long firstBookingId, long pauseMillis) {
        going = true;
        for (int buyer = 0; buyer < buyersAtOnce; buyer++) {
            long first = firstBookingId + buyer * 1_000_000L;
            Thread thread = new Thread(() -> buy(first, pauseMillis));
            buyers.add(thread);
            thread.start();
        }
    }

    /** Waits until every buyer's last call is answered. */
    synchronized Map<String, Object> stop() throws InterruptedException {
        going = false;
        for (Thread buyer : buyers) {
            buyer.join();
        }
        buyers.clear();
        return figures();
    }

    Map<String, Object> figures() {
        return Map.of("creates", creates.get(), "verifies", verifies.get(), "failures", List.copyOf(failures));
    }

    private void buy(long firstBookingId, long pauseMillis) {
        for (long bookingId = firstBookingId; going; bookingId++) {
            try {
                String session = payments.create(bookingId, 540.9000000000001).sessionId();
                creates.incrementAndGet();
                Thread.sleep(pauseMillis);
                payments.verify(session);
                verifies.incrementAndGet();
                Thread.sleep(pauseMillis);
            } catch (Exception failure) {
                failures.add(failure.toString());
            }
        }
    }
}
