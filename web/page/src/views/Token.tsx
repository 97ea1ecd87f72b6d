import { useState } from "preact/hooks";
import { setToken, token, tokenProblem } from "../api";

/** Asks for the token of the server. */
export function Token() {
  const [text, setText] = useState(token.value);
  const submit = (event: Event) => {
    event.preventDefault();
    setToken(text.trim());
  };
  return (
    <form class="token" aria-label="Token of the server" onSubmit={submit}>
      <label for="token">Token</label>
      <input
        id="token"
        type="password"
        autocomplete="off"
        value={text}
        aria-describedby="token-problem token-hint"
        aria-invalid="true"
        onInput={(event) => setText(event.currentTarget.value)}
      />
      <button type="submit" class="button">
        Use it
      </button>
      <p id="token-problem" class="problem" role="alert">
        {tokenProblem.value}
      </p>
      <p id="token-hint" class="hint">
        The token is kept until you close this tab.
      </p>
    </form>
  );
}
