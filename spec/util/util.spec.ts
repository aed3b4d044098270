/** Specs that need neither a process nor a peer, run in one process. */
import './bytes/byte-queue.js';
import './bytes/json-scanner.js';
import './bytes/last-pieces.js';
import './bytes/records.js';
import './bytes/release-memory.js';
import './clock.js';
import './concurrency.js';
import './json-line.js';
import './members/id-table.js';
import './record-flow.js';
import './words.js';
import './xml.js';
