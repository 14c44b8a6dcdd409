package interop;

import interop.booking.BookingApplication;
import interop.callers.Callers;
import interop.eureka.EurekaApplication;
import java.util.Arrays;
import org.springframework.boot.SpringApplication;

/** One jar, three programs: {@code java -jar interop.jar eureka|booking|callers ...}. */
public final class Main {

    private Main() {}

    public static void main(String[] args) throws Exception {
        if (args[0].equals("callers")) {
            Callers.main(Arrays.copyOfRange(args, 1, args.length));
            return;
        }
        Class<?> program = args[0].equals("eureka") ? EurekaApplication.class : BookingApplication.class;
        SpringApplication application = new SpringApplication(program);
        application.setAdditionalProfiles(args[0]);
        application.run(Arrays.copyOfRange(args, 1, args.length));
    }
}
