"""
Calls every method of a daemon with Google's implementation of gRPC, by stubs made from the proto files. What
it learns goes to standard output as JSON; the test judges.

    grpcio-client.py TARGET PROTOS DIALECT
"""

import importlib
import json
import os
import pkgutil
import sys
import tempfile

import grpc


def calls(target, protos, dialect):
    from grpc_tools import protoc

    out = tempfile.mkdtemp()
    files = [os.path.join(root, name) for root, _, names in os.walk(protos) for name in names]
    include = os.path.join(os.path.dirname(pkgutil.get_loader('grpc_tools').get_filename()), '_proto')
    args = ['protoc', '-I' + protos, '-I' + include, '--python_out=' + out, '--grpc_python_out=' + out]
    if protoc.main(args + [f for f in files if f'/{dialect}/' in f]) != 0:
        sys.exit('protoc failed')
    sys.path.insert(0, out)
    module = lambda layer, name: importlib.import_module(f'{dialect}.{layer}.v1.{name}')
    castore = module('castore', 'castore_pb2')
    blob = module('castore', 'rpc_blobstore_pb2')
    directory = module('castore', 'rpc_directory_pb2')
    pathinfo = module('store', 'pathinfo_pb2')
    rpc_pathinfo = module('store', 'rpc_pathinfo_pb2')

    channel = grpc.insecure_channel(target)
    blobs = module('castore', 'rpc_blobstore_pb2_grpc').BlobServiceStub(channel)
    directories = module('castore', 'rpc_directory_pb2_grpc').DirectoryServiceStub(channel)
    path_infos = module('store', 'rpc_pathinfo_pb2_grpc').PathInfoServiceStub(channel)
    result = {}

    # Blobs: small, large in many messages, empty.
    large = bytes(range(256)) * 4000 + bytes(i * i % 251 for i in range(400_000))
    chunk = blob.BlobChunk
    small = blobs.Put(iter([chunk(data=b'hello '), chunk(data=b'world')])).digest
    empty = blobs.Put(iter([])).digest
    stored = blobs.Put(chunk(data=large[i : i + 50_000]) for i in range(0, len(large), 50_000)).digest
    result['small'] = small.hex()
    result['empty'] = empty.hex()
    read = lambda digest: b''.join(m.data for m in blobs.Read(blob.ReadBlobRequest(digest=digest)))
    result['emptyMessages'] = len(list(blobs.Read(blob.ReadBlobRequest(digest=empty))))
    result['smallRead'] = read(small).decode()
    result['largeRead'] = read(stored) == large
    stat = blobs.Stat(blob.StatBlobRequest(digest=stored, send_chunks=True))
    result['chunks'] = len(stat.chunks)
    result['chunkSum'] = sum(c.size for c in stat.chunks) == len(large)
    result['chunksRead'] = b''.join(read(c.digest) for c in stat.chunks) == large
    result['smallChunks'] = len(blobs.Stat(blob.StatBlobRequest(digest=small, send_chunks=True)).chunks)

    # Directories: leaves first; back from the root.
    leaf = castore.Directory()
    leaf.symlinks.add(name=b'link', target=b'../somewhere')
    leaf.files.add(name=b'file', digest=small, size=11, executable=True)
    leaf_digest = directories.Put(iter([leaf])).root_digest
    root = castore.Directory()
    root.directories.add(name=b'a', digest=leaf_digest, size=4)
    root.directories.add(name=b'b', digest=leaf_digest, size=4)
    root_digest = directories.Put(iter([leaf, root])).root_digest
    get = directory.GetDirectoryRequest
    result['leaf'] = leaf_digest.hex()
    result['one'] = list(directories.Get(get(digest=root_digest))) == [root]
    result['closure'] = list(directories.Get(get(digest=root_digest, recursive=True))) == [root, leaf]

    # Path infos. The node is a message of castore, under the name that the dialect has for it.
    node = castore.Node(directory=castore.DirectoryNode(digest=root_digest, size=12))
    nar = path_infos.CalculateNAR(node)
    result['nar'] = [nar.nar_size, nar.nar_sha256.hex()]
    name = '00000000000000000000000000000000-grpcio-' + dialect
    info = pathinfo.PathInfo(
        node=castore.Node(
            directory=castore.DirectoryNode(name=name.encode(), digest=root_digest, size=12)
        ),
        references=[bytes(20)],
        narinfo=pathinfo.NARInfo(
            nar_size=nar.nar_size,
            nar_sha256=nar.nar_sha256,
            reference_names=['00000000000000000000000000000000-other'],
            signatures=[pathinfo.NARInfo.Signature(name='key', data=bytes(64))],
            ca=pathinfo.NARInfo.CA(type=pathinfo.NARInfo.CA.NAR_SHA256, digest=nar.nar_sha256),
            deriver=pathinfo.StorePath(name='drv', digest=bytes(20)),
        ),
    )
    result['put'] = path_infos.Put(info) == info
    result['get'] = path_infos.Get(rpc_pathinfo.GetPathInfoRequest(by_output_hash=bytes(20))) == info
    listed = list(path_infos.List(rpc_pathinfo.ListPathInfoRequest()))
    result['list'] = listed == [info]

    # What is not there, and what makes no sense.
    codes = {}

    def refused(what, call):
        try:
            call()
            codes[what] = 'OK'
        except grpc.RpcError as error:
            codes[what] = error.code().name

    nowhere = b'\xff' * 32
    refused('stat', lambda: blobs.Stat(blob.StatBlobRequest(digest=nowhere)))
    refused('read', lambda: list(blobs.Read(blob.ReadBlobRequest(digest=nowhere))))
    refused('readShort', lambda: list(blobs.Read(blob.ReadBlobRequest(digest=b'x'))))
    refused('directory', lambda: list(directories.Get(get(digest=nowhere))))
    refused('recursive', lambda: list(directories.Get(get(digest=nowhere, recursive=True))))
    refused('dangling', lambda: directories.Put(iter([root])))
    refused('pathInfo', lambda: path_infos.Get(rpc_pathinfo.GetPathInfoRequest(by_output_hash=b'\xff' * 20)))
    refused('byNothing', lambda: path_infos.Get(rpc_pathinfo.GetPathInfoRequest()))
    refused('badInfo', lambda: path_infos.Put(pathinfo.PathInfo()))
    result['codes'] = codes

    from grpc_health.v1 import health_pb2, health_pb2_grpc

    health = health_pb2_grpc.HealthStub(channel)
    status = health.Check(health_pb2.HealthCheckRequest()).status
    result['health'] = health_pb2.HealthCheckResponse.ServingStatus.Name(status)
    return result


target, protos, dialect = sys.argv[1:]
print(json.dumps(calls(target, protos, dialect)))
