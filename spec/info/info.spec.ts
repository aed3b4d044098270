/** What a machine tells of itself: from its files, and over a stream. */
import './boot.js';
import './call.js';
import './machine-reader.js';
