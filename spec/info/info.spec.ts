/** What a machine tells of itself: from its files, and over a stream. */
import './call.js';
import './machine.js';
