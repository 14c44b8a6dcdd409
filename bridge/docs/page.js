// Without `validatorUrl: null` Swagger UI would have a server elsewhere check the document.
SwaggerUIBundle({
  url: "v3/api-docs",
  dom_id: "#document",
  deepLinking: true,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  validatorUrl: null,
});
