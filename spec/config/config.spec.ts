/** Configurations: options, files and what is made of both, in one process. */
import './arguments.js';
import './merge-configuration.js';
import './parse-configuration.js';
import './settings-table.js';
