package interop;

import interop.booking.BookingApplication;
import interop.eureka.EurekaApplication;
import java.util.Arrays;
import org.springframework.boot.SpringApplication;

/** One jar, two programs: {@code java -jar interop.jar eureka|booking --server.port=... }. */
public final class Main {

    private Main() {}

    public static void main(String[] args) {
        Class<?> program = args[0].equals("eureka") ? EurekaApplication.class : BookingApplication.class;
        SpringApplication application = new SpringApplication(program);
        application.setAdditionalProfiles(args[0]);
        application.run(Arrays.copyOfRange(args, 1, args.length));
    }
}
