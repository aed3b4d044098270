/** The pure specs of an egress, in one process. */
import './admission.js';
import './kept-origins.js';
import './networks.js';
import './rules.js';
