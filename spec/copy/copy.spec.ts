/** Copies files and folders to the peer and back. */
import './copies.js';
import './failures.js';
import './folders.js';
import './looked-at.js';
import './named-paths.js';
import './obstacles.js';
import './parts.js';
import './resume.js';
import './root.js';
