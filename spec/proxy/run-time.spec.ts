/** What changes while a proxy runs: channels, groups of them, forwards, rules and egresses. */
import './changes.js';
import './groups.js';
import './policies.js';
import './egress-questions.js';
import './egress-stats.js';
import './running-egress.js';
