/** Why nothing new can be shown. */
import { Foreign } from './parts.js';
import type { RequestFailure } from './requests.js';

export function Trouble({ failure }: { readonly failure: RequestFailure | null }) {
  if (failure === null) return null;
  return (
    <p class="notice bad" role="alert">
      <Foreign text={failure.message} most={1000} />
      {failure.code === 'gone' ? '. It is asked again and again.' : ''}
    </p>
  );
}
