//! Requests to the routes, without a socket.
