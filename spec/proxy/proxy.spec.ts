/** What needs no channel that is open. */
import './built-in-service.js';
import './check-options.js';
import './choose-crowded.js';
import './log-limit.js';
import './one-place.js';
import './ports/port-announcer.js';
import './ports/port-rules.js';
import './require-allowable.js';
