/** Where the page begins: one client for the whole page, handed to the components by the provider. */
import { mountInspector } from "@walcast/client/inspector";
import { WalcastProvider } from "@walcast/client/react";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./App.tsx";
import { client } from "./client.ts";
import { Toasts } from "./Toasts.tsx";

// For the browser's console: walcast.inspect(), await walcast.query("SELECT …").
Object.assign(globalThis, { walcast: client });
// For everybody else: Ctrl+Alt+W, or ?inspect in the address.
mountInspector(client);

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <WalcastProvider client={client}>
      <Toasts>
        <App />
      </Toasts>
    </WalcastProvider>
  </StrictMode>,
);
