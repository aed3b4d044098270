/** Commands in a terminal. */
import './calling-shell.js';
import './spawn-in-terminal.js';
