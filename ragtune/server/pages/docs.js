"use strict";
/* Shows openapi.json by Swagger UI. Everything comes from this server. */
if (window.SwaggerUIBundle) {
  SwaggerUIBundle({
    url: "openapi.json",
    dom_id: "#docs",
    deepLinking: true,
    docExpansion: "list",
    defaultModelsExpandDepth: 0,
    displayRequestDuration: true,
    validatorUrl: null,
    syntaxHighlight: { theme: "nord" },
    presets: [SwaggerUIBundle.presets.apis],
  });
} else {
  document.querySelector("#docs p").textContent =
    "Swagger UI is not installed here: pip install 'ragtune[server]'. The API is described in openapi.json.";
}
