import java.io.File;
import org.apache.catalina.startup.Tomcat;
import org.apache.catalina.Context;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.*;
import org.springframework.web.context.support.GenericWebApplicationContext;
import org.springframework.web.servlet.DispatcherServlet;
import org.springframework.web.servlet.mvc.method.annotation.*;

/** The handlers of the tests, in Spring MVC on Tomcat, as both are by default. */
public class Handlers {
	@RestController
	public static class Routes {
		@RequestMapping(path = "/api/analyze", method = RequestMethod.POST)
		public ResponseEntity<String> analyze() { return ran("analyze"); }

		@RequestMapping(path = "/api/image-analysis", method = RequestMethod.POST)
		public ResponseEntity<String> imageAnalysis() { return ran("image-analysis"); }

		@RequestMapping(path = "/api/tasks/{id}/results", method = RequestMethod.GET)
		public ResponseEntity<String> results() { return ran("tasks"); }

		@RequestMapping(path = "/reports/", method = RequestMethod.GET)
		public ResponseEntity<String> reports() { return ran("reports"); }
	}

	static ResponseEntity<String> ran(String name) {
		return ResponseEntity.ok().header("X-Ran", name).body("done");
	}

	public static void main(String[] args) throws Exception {
		java.util.logging.LogManager.getLogManager().reset();
		GenericWebApplicationContext beans = new GenericWebApplicationContext();
		for (Class<?> c : new Class<?>[] {Routes.class, RequestMappingHandlerMapping.class, RequestMappingHandlerAdapter.class}) {
			beans.registerBeanDefinition(c.getSimpleName(), new org.springframework.beans.factory.support.RootBeanDefinition(c));
		}
		Tomcat tomcat = new Tomcat();
		tomcat.setBaseDir(args[0]);
		tomcat.setPort(0);
		tomcat.getConnector().setProperty("address", "127.0.0.1");
		Context context = tomcat.addContext("", args[0]);
		Tomcat.addServlet(context, "spring", new DispatcherServlet(beans)).setLoadOnStartup(1);
		context.addServletMappingDecoded("/", "spring");
		tomcat.start();
		System.out.println("listening on " + tomcat.getConnector().getLocalPort());
		tomcat.getServer().await();
	}
}
