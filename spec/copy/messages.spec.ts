/** Copies as bytes: messages, names, and the headers of a tar. */
import './entry-name.js';
import './messages.js';
import './tar-bounds.js';
