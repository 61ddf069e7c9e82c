# Makes sigv4.txt: `python tests/data/sigv4.py` from the top of the tree, with botocore 1.44.5.
import datetime, botocore.auth, hashlib
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
NOW=datetime.datetime(2015,8,30,12,36,0)
import botocore.compat
botocore.auth.get_current_datetime=lambda *a,**k: NOW
C=Credentials('AKIDEXAMPLEAKIDEXAMPLE'[:16],'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY')
out=[]
def emit(name,method,path,query,headers,body):
    out.append(f"# {name}\n{method} {path} {query}\n"+"".join(f"{k}: {v}\n" for k,v in headers)+f"\n{body}\n.\n")
def header(name,method,path,query='',headers=(),body='',service='ecs',region='us-east-1'):
    host='api.example'
    r=AWSRequest(method=method,url=f'http://{host}{path}'+('?'+query if query else ''),data=body,headers=dict(headers))
    SigV4Auth(C,service,region).add_auth(r)
    emit(name,method,path,query,[('host',host)]+list(r.headers.items()),body)
def query_(name,method,path,query='',headers=(),body='',service='sts',region='us-east-1',expires=3600):
    host='api.example'
    r=AWSRequest(method=method,url=f'http://{host}{path}'+('?'+query if query else ''),data=body,headers=dict(headers))
    SigV4QueryAuth(C,service,region,expires).add_auth(r)
    q=r.url.split('?',1)[1]
    emit(name,method,path,q,[('host',host)]+list(r.headers.items()),body)
J=[('Content-Type','application/x-amz-json-1.1'),('X-Amz-Target','AmazonEC2ContainerServiceV20141113.ListClusters')]
header('json post','POST','/',headers=J,body='{}')
header('form post','POST','/',headers=[('Content-Type','application/x-www-form-urlencoded; charset=utf-8')],body='Action=DescribeLoadBalancers&Version=2015-12-01',service='elasticloadbalancing')
header('route 53','GET','/2013-04-01/hostedzone/Z1/rrset','type=A&name=a.b.&maxitems=3',service='route53')
header('escaped path','GET','/a%20b/%2F/c',service='route53')
header('dot segments','GET','/a/./b/../c//d/')
header('path with signs','GET',"/2013-04-01/x:y@z,w;v=u!$&'()*",service='route53')
header('sorted query','GET','/','b=2&a=2&a=1&A=0&c')
header('escaped query','GET','/','x=%2F%20%2B%3D&%C3%A4=%E1%88%B4&tilde=a~b-c_d.e')
header('blanks in headers','GET','/',headers=[('X-Amz-Meta','  a   b  c  '),('My-Header','"x   y"')])
header('empty header','GET','/',headers=[('X-Empty','')])
header('delete','DELETE','/2013-04-01/hostedzone/Z1',service='route53')
header('region','POST','/',headers=J,body='{"cluster":"default"}',region='eu-central-1')
header('cbor path','POST','/service/GraniteServiceVersion20100801/operation/ListMetrics',headers=[('smithy-protocol','rpc-v2-cbor')],body='x',service='monitoring')
header('user agent is not signed','POST','/',headers=J+[('User-Agent','Boto3/1'),('X-Amzn-Trace-Id','Root=1')],body='{}')
header('body of text','POST','/',headers=J,body='{"name":"\u00e4\u1234"}')
query_('presigned get','GET','/','Action=GetCallerIdentity&Version=2011-06-15')
query_('presigned with header','GET','/','Action=GetCallerIdentity&Version=2011-06-15',headers=[('x-k8s-aws-id','demo')],expires=60)
query_('presigned week','GET','/a/b','x=a%20b',expires=604800,service='route53')
open('tests/data/sigv4.txt','w').write("## Requests signed by botocore 1.44.5 at 2015-08-30T12:36:00Z: a name, method path query, headers,\n## an empty line, the body, a dot.\n"+"".join(out))
