/** SFTP with vproxy-guest at the far side: the specs of vproxy's own service. */
import { buildGuest } from './build.js';
import './copy-far-side.js';
import '../sftp/files.js';
import '../sftp/hostile.js';
import '../sftp/requests.js';

buildGuest();
