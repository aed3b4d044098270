/** Configurations: options, files and what is made of both, in one process. */
import './channel-argument.js';
import './egress-rules.js';
import './forward-argument.js';
import './json-syntax.js';
import './merge-configuration.js';
import './parse-configuration.js';
import './settings-table.js';
