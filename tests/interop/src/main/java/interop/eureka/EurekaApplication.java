package interop.eureka;

import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.cloud.netflix.eureka.server.EnableEurekaServer;
import org.springframework.context.annotation.Bean;
import org.springframework.http.HttpHeaders;
import org.springframework.web.filter.OncePerRequestFilter;

/** Netflix's Eureka server as Spring Cloud ships it, behind a password. */
@EnableEurekaServer
@SpringBootApplication
public class EurekaApplication {

    @Bean
    OncePerRequestFilter password(@Value("${interop.user}") String user, @Value("${interop.password}") String password) {
        String expected = "Basic " + HttpHeaders.encodeBasicAuth(user, password, StandardCharsets.UTF_8);
        return new OncePerRequestFilter() {
            @Override
            protected void doFilterInternal(HttpServletRequest request, HttpServletResponse response, FilterChain chain)
                    throws ServletException, IOException {
                if (expected.equals(request.getHeader(HttpHeaders.AUTHORIZATION))) {
                    chain.doFilter(request, response);
                } else {
                    response.sendError(HttpServletResponse.SC_UNAUTHORIZED);
                }
            }
        };
    }
}
