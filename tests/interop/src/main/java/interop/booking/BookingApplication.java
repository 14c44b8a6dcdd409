package interop.booking;

import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.client.loadbalancer.LoadBalanced;
import org.springframework.context.annotation.Bean;
import org.springframework.http.client.HttpComponentsClientHttpRequestFactory;
import org.springframework.web.client.RestTemplate;

/** Calls the bridge as the Booking Service does: found in Eureka, load-balanced, over Apache HttpClient 5. */
@SpringBootApplication
public class BookingApplication {

    /** HttpClient's defaults: five connections kept per instance, no response timeout, its own retries. */
    @Bean
    @LoadBalanced
    RestTemplate loadBalanced() {
        RestTemplate template = new RestTemplate(new HttpComponentsClientHttpRequestFactory());
        template.getInterceptors().add((request, body, execution) -> {
            request.getHeaders().remove("Accept"); // the Booking Service sends none
            return execution.execute(request, body);
        });
        return template;
    }
}
