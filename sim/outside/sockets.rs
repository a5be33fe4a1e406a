//! `host`'s socket traits on the simulated network.

use std::io;
use std::net::SocketAddr;

use bytes::BytesMut;
use host::net::{Datagrams, Listener, Reader, Stream, Writer};

use crate::net::{TcpListener, TcpReader, TcpStream, TcpWriter, UdpSocket};

impl Datagrams for UdpSocket {
    async fn recv(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (payload, from) = self.recv_from().await?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Ok((len, from))
    }

    fn try_send(&self, to: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.send_to(to, datagram)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(Self::local_addr(self))
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        Self::accept(self).await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(Self::local_addr(self))
    }
}

impl Stream for TcpStream {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    fn split(self) -> (TcpReader, TcpWriter) {
        Self::split(self)
    }
}

impl Reader for TcpReader {
    async fn read(&mut self, buffer: &mut BytesMut, limit: usize) -> io::Result<usize> {
        let bytes = Self::read(self, limit).await?;
        buffer.extend_from_slice(&bytes);
        Ok(bytes.len())
    }
}

impl Writer for TcpWriter {
    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        Self::write_all(self, bytes).await
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        Self::shutdown(self)
    }
}
