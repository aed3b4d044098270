/** `vproxy copy` over real processes. */
import './copies.js';
