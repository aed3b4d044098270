/** Copies to the peer and back: files and folders, the bytes in between, and peers that break the rules. */
import './copies.js';
import './failures.js';
import './folders.js';
import './hostile.js';
import './kept-list.js';
import './looked-at.js';
import './messages.js';
import './named-paths.js';
import './obstacles.js';
import './parts.js';
import './resume.js';
import './root.js';
import './tar-bounds.js';
