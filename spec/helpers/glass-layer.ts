/** A layer in place of TLS that protects nothing: its bytes can be seen, and made by hand. */
import type { SecureLayerFactory, SecureLayerHandler } from '../../lib/session/opening/auth.js';

const NOTHING = Buffer.alloc(0);

/** It is ready with the first bytes received, or at once. `onMade` gets its callbacks. */
export function glassLayer(
  onMade: (handler: SecureLayerHandler) => void = () => undefined,
  isReadyAtOnce = false,
): SecureLayerFactory {
  return (_agreement, channel, handler) => {
    let isReady = isReadyAtOnce;
    onMade(handler);
    if (isReady) handler.onReady(channel);
    return {
      isMidRecord: false,
      receive: (chunk) => {
        if (!isReady) handler.onReady(channel);
        isReady = true;
        handler.onBytes(chunk);
        return NOTHING;
      },
      handleDrain: () => handler.onDrain(),
      close: (onClosed) => onClosed(),
      destroy: () => undefined,
    };
  };
}
