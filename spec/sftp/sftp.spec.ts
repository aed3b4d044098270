/** The service `sftp` of vproxy: its requests, its folder, and clients that break rules. */
import './files.js';
import './hostile.js';
import './requests.js';
import './service.js';
