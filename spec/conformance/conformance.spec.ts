/** The rules of docs/protocol.md, against frames written by hand, in memory and on a manual clock, all in one process. */
import './authentication.js';
import './conversations.js';
import './datagrams.js';
import './flood.js';
import './flow-control.js';
import './frames.js';
import './liveness.js';
import './opening.js';
import './resume.js';
import './rules.js';
import './services.js';
import './streams.js';
