// Runs around every test: each starts signed out, at the overview's address,
// without a server, and leaves nothing mounted.

import { cleanup } from "@testing-library/react";
import { afterEach, beforeEach, vi } from "vitest";
import { setToken } from "../api/token";

beforeEach(() => {
  setToken(null);
  window.location.hash = "";
});

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.useRealTimers();
});
