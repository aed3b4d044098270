/** Specs that need no channel of the system. */
import './address.js';
import './link-parts.js';
import './new-kind.js';
