/** Links inside TLS, and links that are handed over. */
import './handing-over.js';
import './tls-layer.js';
