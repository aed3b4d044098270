/** Ends of forwards: files, hybrid vsock, the modes of sockets, and the header of the PROXY protocol. */
import '../file.js';
import '../socket-access.js';
import '../vsock-mux.js';
import './proxy-header.js';
