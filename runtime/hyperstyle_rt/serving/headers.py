"""HTTP headers of the page, from the service or from any web server."""

CONTENT_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "worker-src 'self' blob:; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'"
)
"""The page loads nothing from elsewhere."""

HEADERS = {
    "content-security-policy": f"{CONTENT_POLICY}; frame-ancestors 'none'",  # nobody may frame it
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    # Isolated from other origins, so that workers may share memory: threads of WebAssembly.
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every answer but those to browsers that ask whether a script may ask (CORS)."""
