/** What needs no channel that is open. */
import './built-in-service.js';
import './check-options.js';
import './log-limit.js';
