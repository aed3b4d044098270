/** What needs no channel of the system. */
import './address.js';
import './link-parts.js';
