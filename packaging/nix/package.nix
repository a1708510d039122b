# From source: `nix-build -E 'with import <nixpkgs> {}; callPackage ./package.nix {}'`.
{
  lib,
  rustPlatform,
  fetchFromGitHub,
  installShellFiles,
}:

rustPlatform.buildRustPackage rec {
  pname = "wdsr";
  version = "@VERSION@";

  src = fetchFromGitHub {
    owner = "wdsr-rs";
    repo = "wdsr";
    tag = "v${version}";
    # nix prints the right one in its error.
    hash = lib.fakeHash;
  };

  cargoLock.lockFile = "${src}/Cargo.lock";
  cargoBuildFlags = [ "--package=wdsr-cli" ];
  buildType = "dist";
  cargoTestFlags = [ "--package=wdsr-cli" ];

  nativeBuildInputs = [ installShellFiles ];
  postInstall = ''
    $out/bin/wdsr man --out man
    installManPage man/*.1
    installShellCompletion --cmd wdsr \
      --bash <($out/bin/wdsr completions bash) \
      --zsh <($out/bin/wdsr completions zsh) \
      --fish <($out/bin/wdsr completions fish)
  '';

  meta = {
    description = "Upscales images with WDSR networks: faithful, exact, fast on the processor";
    homepage = "https://github.com/wdsr-rs/wdsr";
    license = with lib.licenses; [ mit asl20 ];
    mainProgram = "wdsr";
  };
}
