/** Facts about a machine: from its files, and over a stream. */
import './call.js';
import './machine.js';
