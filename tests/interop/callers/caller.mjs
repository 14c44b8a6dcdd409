// One purchase's three calls by Node's fetch: caller.mjs <base> <bookingId>.
const [, , origin, bookingId] = process.argv;
const base = `${origin}/api/v1/internal/payments`;
const headers = {
  "Content-Type": "application/json",
  "X-User-Id": "7",
  "X-User-Roles": "USER,SERVICE_ACCOUNT",
};

async function call(method, address, body) {
  const response = await fetch(address, { method, headers, body });
  const answer = await response.json();
  await new Promise((resolve) => setTimeout(resolve, 100)); // until its connection is in the pool again
  return answer;
}

const create = await call("POST", `${base}/checkout/create`, `{"bookingId":${bookingId},"userId":7,"amount":449.97}`);
const verify = await call("GET", `${base}/checkout/verify/${create.sessionId}`);
const status = await call("GET", `${base}/status/${create.sessionId}`);
console.log(JSON.stringify({ create, verify, status }));
