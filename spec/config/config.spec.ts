/** Configurations: options, files, and the merge of both, in one process. */
import './arguments.js';
import './merge-configuration.js';
import './parse-configuration.js';
import './read-configuration.js';
import './run-variables.js';
import './settings-table.js';
