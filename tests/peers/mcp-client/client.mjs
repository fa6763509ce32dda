// A real MCP client for the tests of `examples/tests/services/mcp`.
//
//   MCP_URL     URL of the server
//   MCP_TOKEN   bearer token; without it, the client sends no credential
//
// Connects and prints an outcome. Then it reads one tool name per line, calls the tool in the same
// session, and prints the outcome of each call. An outcome is one line of JSON: `{"text": …}`,
// `{"mcp_error": <code>, "data": …}`, or `{"http_status": …}`.
import { createInterface } from 'node:readline';

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import {
  StreamableHTTPClientTransport,
  StreamableHTTPError,
} from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { McpError } from '@modelcontextprotocol/sdk/types.js';

const { MCP_URL, MCP_TOKEN } = process.env;

async function outcome(action) {
  try {
    return { text: await action() };
  } catch (error) {
    if (error instanceof StreamableHTTPError) {
      return { http_status: error.code };
    }
    if (error instanceof McpError) {
      return { mcp_error: error.code, data: error.data };
    }
    throw error;
  }
}

const headers = MCP_TOKEN ? { authorization: `Bearer ${MCP_TOKEN}` } : {};
const transport = new StreamableHTTPClientTransport(new URL(MCP_URL), { requestInit: { headers } });
const client = new Client({ name: 'peer-mcp-client', version: '0.0.0' });

async function connect() {
  await client.connect(transport);
  return transport.sessionId ? 'connected' : 'connected without a session';
}

async function call(name) {
  const { content } = await client.callTool({ name });
  return content.map(({ text }) => text).join('');
}

console.log(JSON.stringify(await outcome(connect)));
for await (const name of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await outcome(() => call(name))));
}
process.exit(0);
