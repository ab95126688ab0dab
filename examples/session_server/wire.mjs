// sessiond's API, loaded from the proto files: no code is generated. JSON as its typed values.

import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const definitions = loader.loadSync(
  ['sessiond/v1/session_service.proto', 'sessiond/v1/delivery_service.proto', here('rpc.proto')],
  {
    includeDirs: [here('../../proto')],
    longs: Number, enums: String, oneofs: true, arrays: true, objects: true,
  },
);
const { sessiond } = grpc.loadPackageDefinition(definitions);

/** A message of the API from its bytes. */
export function decoded(name, bytes) {
  return definitions[`sessiond.v1.${name}`].deserialize(bytes);
}

/** The bytes of a message. */
export function encoded(name, message) {
  return definitions[`sessiond.v1.${name}`].serialize(message);
}

// How long the server may take for a call; tests on a busy machine are slow.
const PATIENCE_MS = 20_000;

// The metadata of a call that acts as the app itself, above every role; such a call names no user.
const AS_APP = new grpc.Metadata();
AS_APP.set('sessiond-as', 'app');

export class Refused extends Error {
  /** Why a call was refused: the code's name, the reason for machines, the fields at fault. */
  constructor(error) {
    super(error.details);
    this.code = Object.keys(grpc.status).find((name) => grpc.status[name] === error.code);
    this.reason = '';
    this.fields = [];
    for (const bytes of error.metadata?.get('grpc-status-details-bin') ?? []) {
      for (const { type_url: type, value } of definitions['google.rpc.Status'].deserialize(bytes).details) {
        if (type.endsWith('/google.rpc.ErrorInfo')) {
          this.reason = definitions['google.rpc.ErrorInfo'].deserialize(value).reason;
        } else if (type.endsWith('/google.rpc.BadRequest')) {
          const { fieldViolations } = definitions['google.rpc.BadRequest'].deserialize(value);
          this.fields = fieldViolations.map(({ field }) => field).sort();
        }
      }
    }
  }
}

/**
 * What a connection shows and trusts. Without an authority (PEM) it is not encrypted, and as a token must not be read by
 * others, it has none then.
 */
export function credentials(ca, token) {
  if (!ca) {
    if (token) throw new Error('a TOKEN is sent over TLS only: give --ca too');
    return grpc.credentials.createInsecure();
  }
  const channel = grpc.credentials.createSsl(ca);
  if (!token) return channel;
  const metadata = new grpc.Metadata();
  metadata.set('authorization', `Bearer ${token}`);
  const call = grpc.credentials.createFromMetadataGenerator((_, done) => done(null, metadata));
  return grpc.credentials.combineChannelCredentials(channel, call);
}

/** One connection: unary calls as promises, and the stream of a session's updates. */
export class Connection {
  constructor(address, app, access = credentials()) {
    const options = { 'grpc.use_local_subchannel_pool': 1 };
    this.app = app;
    this.calls = new sessiond.v1.SessionService(address, access, options);
    this.streams = new sessiond.v1.DeliveryService(address, access, options);
  }

  async call(name, request, metadata = new grpc.Metadata()) {
    const { calls } = this;
    const options = { deadline: Date.now() + PATIENCE_MS };
    try {
      return await promisify(calls[name]).call(calls, { app: this.app, ...request }, metadata, options);
    } catch (error) {
      throw new Refused(error);
    }
  }

  callAsApp(name, request) {
    return this.call(name, request, AS_APP);
  }

  subscribe(request) {
    return this.streams.SubscribeToSession({ app: this.app, ...request });
  }

  /** Resolves once the server answers. */
  ready(milliseconds) {
    return promisify(this.calls.waitForReady).call(this.calls, Date.now() + milliseconds);
  }

  close() {
    this.calls.close();
    this.streams.close();
  }
}

/** JSON as a Value: JSON has no integers, so numbers stay numbers. */
export function value(json) {
  if (json === null) return { null: {} };
  if (typeof json === 'boolean') return { flag: json };
  if (typeof json === 'number') return { number: json };
  if (typeof json === 'string') return { text: json };
  if (Array.isArray(json)) return { list: { items: json.map(value) } };
  return { map: { entries: values(json) } };
}

export function values(object) {
  return Object.fromEntries(Object.entries(object).map(([key, json]) => [key, value(json)]));
}

/** A Value or NamedValue as JSON. */
export function json(value) {
  if (value.kind === 'null') return null;
  if (value.kind === 'list') return value.list.items.map(json);
  if (value.kind === 'map') {
    return Object.fromEntries(Object.entries(value.map.entries).map(([key, it]) => [key, json(it)]));
  }
  return value[value.kind];
}
