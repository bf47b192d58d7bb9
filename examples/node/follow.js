// Copyright (c) The vault-plugin-c1 authors
// SPDX-License-Identifier: MPL-2.0

// Runs a connector with its credential in its environment, and restarts it after each
// rotation. VAULT_ADDR says where Vault is; role-id and secret-id are files of the
// directory that it is started in:
//
//   node follow.js /usr/local/bin/baton-okta

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import nodeVault from "node-vault";

const approle = "approle"; // where the auth method is mounted
const path = "c1/connector-creds/okta"; // or by KV version 2, "c1/data/connector-creds/okta"
const interval = 60; // seconds to the next read when the answer says nothing, as KV's, and after an error
const patience = 30; // seconds that a connector has to stop

const [command, ...args] = process.argv.slice(2);
// A read may have to wait for a rotation that is under way.
const vault = nodeVault({ requestOptions: { timeout: 90_000 } });

async function login() {
  const file = async (name) => (await readFile(name, "utf8")).trim();
  await vault.approleLogin({ mount_point: approle, role_id: await file("role-id"), secret_id: await file("secret-id") });
}

async function read() {
  if (!vault.token) await login();
  let answer;
  try {
    answer = await vault.read(path);
  } catch (err) {
    if (err.response?.statusCode !== 403) throw err;
    await login(); // the token has ended
    answer = await vault.read(path);
  }
  const kv = answer.data.metadata !== undefined;
  const fields = kv ? answer.data.data : answer.data;
  return {
    version: kv ? answer.data.metadata.version : fields.version,
    // A second later than it says, as other clients do: then the rotation has begun.
    next: fields.ttl > 0 ? fields.ttl + 1 : interval,
    environment: {
      BATON_CLIENT_ID: fields.BATON_CLIENT_ID ?? fields.client_id,
      BATON_CLIENT_SECRET: fields.BATON_CLIENT_SECRET ?? fields.client_secret,
    },
  };
}

let connector;
let stopping = false;
let leaving = false;

function start(environment) {
  if (leaving) return;
  const { VAULT_TOKEN, ...inherited } = process.env;
  stopping = false;
  connector = spawn(command, args, { stdio: "inherit", env: { ...inherited, ...environment } });
  connector.once("error", (err) => {
    console.error(`cannot start the connector: ${err.code}`);
    process.exit(1);
  });
  // When the connector ends by itself, so does this: whatever runs it restarts both.
  connector.once("exit", (code) => stopping || process.exit(code || 1));
}

async function stop() {
  if (!connector) return;
  stopping = true;
  const exited = once(connector, "exit");
  connector.kill("SIGTERM");
  const force = setTimeout(() => connector.kill("SIGKILL"), patience * 1000);
  await exited;
  clearTimeout(force);
}

for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, async () => {
    leaving = true;
    await stop();
    process.exit(0);
  });
}

let running;
for (;;) {
  let next = interval;
  try {
    const current = await read();
    if (current.version !== running) {
      await stop();
      start(current.environment);
      running = current.version;
      console.log(`the connector runs with version ${running}`);
    }
    next = current.next;
  } catch (err) {
    // Its message alone: the rest of the error can hold the token. The connector goes on.
    console.error(`cannot read ${path}: ${err.message}`);
  }
  await sleep(next * 1000);
}
