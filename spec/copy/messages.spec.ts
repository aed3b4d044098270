/** Copies as bytes: messages, names, and the headers of a tar. */
import './messages.js';
import './tar-bounds.js';
