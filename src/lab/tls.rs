//! Certificates for gateways.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::{LabError, TlsSpec};

/// One authority for the whole lab, so that two servers with TLS trust each other.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: PathBuf,
}

impl Authority {
    pub(super) fn new(dir: &Path) -> Result<Self, LabError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "gatewatch lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = dir.join("ca.pem");
        write(&certificate, &params.self_signed(&key)?.pem())?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Writes a certificate, and returns the `tls` block that uses it.
    pub(super) fn block(&self, dir: &Path, spec: TlsSpec) -> Result<String, LabError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])?;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let now = super::system_time();
        params.not_after = match spec {
            TlsSpec::EndsIn(left) => now + left,
            TlsSpec::EndedBefore(past) => now.checked_sub(past).unwrap_or(std::time::SystemTime::UNIX_EPOCH),
        }
        .into();
        let (cert_file, key_file) = (dir.join("gateway.pem"), dir.join("gateway-key.pem"));
        write(&cert_file, &params.signed_by(&key, &self.issuer)?.pem())?;
        write(&key_file, &key.serialize_pem())?;
        Ok(format!(
            "  tls {{\n    cert_file: \"{}\"\n    key_file: \"{}\"\n    ca_file: \"{}\"\n    verify: true\n  }}\n",
            cert_file.display(),
            key_file.display(),
            self.certificate.display(),
        ))
    }
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    std::fs::write(path, text).map_err(LabError::io(format!("cannot write {}", path.display())))
}
