/** Specs that need no open channel. */
import './built-in-service.js';
import './check-options.js';
import './keeper.js';
import './listen-keeper.js';
import './log-limit.js';
