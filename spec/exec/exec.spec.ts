/** Parts of exec that need no process: messages, decisions, the calling side, and recordings. */
import './call.js';
import './caller-errors.js';
import './decide-command.js';
import './messages.js';
import './record-fields.js';
import './recording/asciicast.js';
import './recording/recorded-call.js';
import './recording/terminal-recorder.js';
