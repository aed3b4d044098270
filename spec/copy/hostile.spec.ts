/** Peers of vproxy that try to escape the target, or send what no copy may contain. */
import './hostile.js';
